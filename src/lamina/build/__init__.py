"""The builder: front end (text) -> graph -> solver -> ops -> exporter (design.md, decision 5)."""
