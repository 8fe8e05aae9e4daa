"""Images in tar archives: `docker save`, OCI archives, and one format that is both."""
