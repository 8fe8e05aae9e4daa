"""The build checks that need only the parsed file, and those on the build context (feature D48)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lamina.build.dockerfile import lint
from lamina.build.dockerfile.errors import DockerfileError, located
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.ignore import IgnoreMatcher
from lamina.build.dockerfile.instructions import Arg, From, Instruction, Maintainer
from lamina.build.dockerfile.lint import Linter, LintOptions
from lamina.build.dockerfile.match import clean_path
from lamina.build.dockerfile.parser import Dockerfile
from lamina.spec.platform import Platform

_RESERVED_NAMES = ("scratch", "context")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE | re.ASCII
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE | re.ASCII)


def linter_for(dockerfile: Dockerfile, given: str = "") -> Linter:
    """A linter with the options of the file's `# check=` directive.

    Args:
        dockerfile: the file.
        given: the build argument BUILDKIT_DOCKERFILE_CHECK, which takes the directive's place (D40).

    Raises:
        DockerfileError: the directive or the argument is malformed.
    """
    if given:
        try:
            return Linter(LintOptions.parse(given))
        except DockerfileError as error:
            raise DockerfileError(f"failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: {error.message}") from None
    directive = dockerfile.directives.get("check")
    if directive is None:
        return Linter()
    with located(dockerfile.source, directive.range):
        return Linter(LintOptions.parse(directive.value))


def check_file(dockerfile: Dockerfile, linter: Linter) -> None:
    """Run the checks on the text: casing, stage names, deprecated and odd forms."""
    for where in dockerfile.blank_continuations:
        linter.warn(lint.NO_EMPTY_CONTINUATION, where)
    _check_casing(dockerfile.instructions, linter)
    names: set[str] = set()
    for instruction in dockerfile.instructions:
        if isinstance(instruction, From):
            _check_from(instruction, names, linter)
        elif isinstance(instruction, Arg):
            _check_description(instruction, "ARG", [pair.name for pair in instruction.pairs], linter)
        elif isinstance(instruction, Maintainer):
            _warn(linter, lint.MAINTAINER_DEPRECATED, instruction)


def check_secret_name(instruction: Instruction, name: str, linter: Linter) -> None:
    """Warn when an ARG or ENV looks like a secret by its name."""
    if _SECRET.search(name) and not _NO_SECRET.search(name):
        _warn(linter, lint.SECRETS_USED_IN_ARG_OR_ENV, instruction, instruction.NAME, quote(name))


def check_ignored(instruction: Instruction, sources: Iterable[str], ignore: IgnoreMatcher, linter: Linter) -> None:
    """Warn about sources of COPY or ADD that the ignore file hides; not when it brings anything back with `!`.

    Args:
        instruction: the COPY or ADD.
        sources: its expanded local sources.
        ignore: the rules of the context.
        linter: takes the warnings.
    """
    if not ignore or ignore.includes_some:
        return
    for source in sources:
        path = clean_path("/" + source)[1:]
        # The root itself is no file; it is hidden when everything is.
        everything = not path and any(rule.pattern in ("*", "**") for rule in ignore.rules)
        if everything or (path and ignore.excluded(path)):
            _warn(linter, lint.COPY_IGNORED_FILE, instruction, instruction.NAME.capitalize(), quote(path or "."))


def check_base_platform(from_: From, image: str, wanted: Platform, found: Platform, linter: Linter) -> None:
    """Warn when a base image is of another operating system or architecture than wanted."""
    if (wanted.os, wanted.architecture) != (found.os, found.architecture):
        _warn(linter, lint.INVALID_BASE_IMAGE_PLATFORM, from_, image, quote(str(found)), quote(str(wanted)))


def _check_casing(instructions: Iterable[Instruction], linter: Linter) -> None:
    stage = False
    checked = []
    for instruction in instructions:
        stage = stage or isinstance(instruction, From)
        if stage:
            checked.append(instruction)
    lower = sum(instruction.origin.keyword.islower() for instruction in checked)
    upper = sum(instruction.origin.keyword.isupper() for instruction in checked)
    majority = "lowercase" if lower > upper else "uppercase"
    for instruction in checked:
        keyword = instruction.origin.keyword
        if not (keyword.islower() if majority == "lowercase" else keyword.isupper()):
            _warn(linter, lint.CONSISTENT_INSTRUCTION_CASING, instruction, keyword, majority)


def _check_from(from_: From, names: set[str], linter: Linter) -> None:
    if not from_.alias:
        return
    keyword = from_.origin.keyword
    if from_.alias_written != from_.alias:
        _warn(linter, lint.STAGE_NAME_CASING, from_, from_.alias_written)
    if (keyword.islower() and not from_.as_written.islower()) or (keyword.isupper() and not from_.as_written.isupper()):
        _warn(linter, lint.FROM_AS_CASING, from_, from_.as_written, keyword)
    if from_.alias in _RESERVED_NAMES:
        _warn(linter, lint.RESERVED_STAGE_NAME, from_, quote(from_.alias))
    if from_.alias in names:
        _warn(linter, lint.DUPLICATE_STAGE_NAME, from_, quote(from_.alias))
    names.add(from_.alias)
    _check_description(from_, "FROM", [from_.alias], linter)


def _check_description(instruction: Instruction, name: str, defined: list[str], linter: Linter) -> None:
    comments = instruction.origin.comments
    if comments and comments[-1].split(" ", 1)[0] not in defined:
        wanted = defined[0] if len(defined) == 1 else "<arg_key>"
        _warn(linter, lint.INVALID_DEFINITION_DESCRIPTION, instruction, name, wanted)


def _warn(linter: Linter, rule: lint.Rule, instruction: Instruction, *particulars: str) -> None:
    linter.warn(rule, instruction.range, *particulars, comments=instruction.origin.comments)
