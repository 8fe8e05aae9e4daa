"""Go's text/template for `--format`: lexer, parser, evaluator, printf and docker's functions.

Entry point: `lamina.cli.format.gotemplate.template.parse`.
"""
