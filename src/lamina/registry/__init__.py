"""The registry server: the distribution protocol over a content store and a metadata database."""
