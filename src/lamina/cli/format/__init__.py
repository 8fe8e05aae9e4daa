"""How the command line shows values: Go templates, tables, units, Go-flavoured JSON."""
