"""Build checks: the 22 rules as data, their options, and the warnings they lead to (features D03, D48)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lamina.build.dockerfile.directives import parse_directive
from lamina.build.dockerfile.errors import DockerfileError
from lamina.build.dockerfile.gofmt import quote
from lamina.build.dockerfile.source import Range, Source
from lamina.values import dataclass

_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATOR = re.compile(r"\s*([,;=])\s*")
_DOCS: Final = "https://docs.docker.com/go/dockerfile/rule/"
_BOOLEANS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


@dataclass(frozen=True, slots=True)
class Rule:
    """One check.

    Attributes:
        name: as `# check=skip=` takes it.
        description: what it wants.
        message: with `{}` for the particulars of a finding.
        experimental: runs only when asked for.
    """

    name: str
    description: str
    message: str
    experimental: bool = False

    @property
    def url(self) -> str:
        """Where Docker's documentation describes it."""
        return f"{_DOCS}{_HUMPS.sub('-', self.name).lower()}/"


@dataclass(frozen=True, slots=True)
class LintWarning:
    """A finding: the rule, what was found, and the lines."""

    rule: Rule
    message: str
    range: Range

    def summary(self) -> str:
        """`Rule: message (line n)`, as it is listed after a build."""
        return f"{self.rule.name}: {self.message} (line {self.range.start})"

    def report(self, source: Source) -> str:
        """The long form with the excerpt, as `--check` prints it."""
        head = f"WARNING: {self.rule.name} - {self.rule.url}\n{self.message}\n"
        return head + source.excerpt(self.range)


STAGE_NAME_CASING = Rule(
    "StageNameCasing", "Names of stages are written in lower case", "Stage name '{}' should be lowercase"
)
FROM_AS_CASING = Rule(
    "FromAsCasing", "FROM and AS are written in the same case", "'{}' and '{}' keywords' casing do not match"
)
NO_EMPTY_CONTINUATION = Rule(
    "NoEmptyContinuation", "No blank lines inside of a continued instruction", "Empty continuation line"
)
CONSISTENT_INSTRUCTION_CASING = Rule(
    "ConsistentInstructionCasing",
    "All instructions of a file are written in the same case",
    "Command '{}' should match the case of the command majority ({})",
)
DUPLICATE_STAGE_NAME = Rule(
    "DuplicateStageName", "No two stages have the same name", "Duplicate stage name {}, stage names should be unique"
)
RESERVED_STAGE_NAME = Rule(
    "ReservedStageName",
    "No stage is named scratch or context",
    "Stage name should not use the same name as reserved stage {}",
)
JSON_ARGS_RECOMMENDED = Rule(
    "JSONArgsRecommended",
    "CMD and ENTRYPOINT in JSON form get signals directly instead of through a shell",
    "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
)
MAINTAINER_DEPRECATED = Rule(
    "MaintainerDeprecated",
    "A label names the author, not MAINTAINER",
    "Maintainer instruction is deprecated in favor of using label",
)
UNDEFINED_ARG_IN_FROM = Rule(
    "UndefinedArgInFrom",
    "FROM uses only variables that an ARG before it declares",
    "FROM argument '{}' is not declared{}",
)
WORKDIR_RELATIVE_PATH = Rule(
    "WorkdirRelativePath",
    "The first WORKDIR is absolute, so that it does not depend on the base image",
    "Relative workdir {} can have unexpected results if the base image changes",
)
UNDEFINED_VAR = Rule("UndefinedVar", "Variables are set before they are used", "Usage of undefined variable '${}'{}")
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    "MultipleInstructionsDisallowed",
    "A stage has one CMD, ENTRYPOINT and HEALTHCHECK at most",
    "Multiple {} instructions should not be used in the same stage because only the last one will be used",
)
LEGACY_KEY_VALUE_FORMAT = Rule(
    "LegacyKeyValueFormat",
    "Keys and values are joined by an equals sign",
    '"{0} key=value" should be used instead of legacy "{0} key value" format',
)
INVALID_BASE_IMAGE_PLATFORM = Rule(
    "InvalidBaseImagePlatform",
    "The base image is of the platform that is built for",
    "Base image {} was pulled with platform {}, expected {} for current build",
)
REDUNDANT_TARGET_PLATFORM = Rule(
    "RedundantTargetPlatform",
    "The target platform is the default of FROM",
    "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    "SecretsUsedInArgOrEnv",
    "Secrets come by mount; ARG and ENV stay visible in the image",
    "Do not use ARG or ENV instructions for sensitive data ({} {})",
)
INVALID_DEFAULT_ARG_IN_FROM = Rule(
    "InvalidDefaultArgInFrom",
    "With the defaults of all ARGs, FROM names a valid image",
    "Default value for ARG {} results in empty or invalid base image name",
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule(
    "FromPlatformFlagConstDisallowed",
    "The platform of FROM follows from a variable",
    "FROM --platform flag should not use constant value {}",
)
COPY_IGNORED_FILE = Rule(
    "CopyIgnoredFile",
    "COPY and ADD name no file that the ignore file hides",
    "Attempting to {} file {} that is excluded by .dockerignore",
)
INVALID_DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription",
    "The comment above a stage or ARG begins with its name",
    "Comment for {} should follow the format: `# {} <description>`",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule(
    "ExposeProtoCasing",
    "Protocols of EXPOSE are written in lower case",
    "Defined protocol '{}' in EXPOSE instruction should be lowercase",
)
EXPOSE_INVALID_FORMAT = Rule(
    "ExposeInvalidFormat",
    "EXPOSE names container ports only",
    "EXPOSE instruction should not define an IP address or host-port mapping, found '{}'",
)

RULES: Final[dict[str, Rule]] = {rule.name: rule for rule in list(globals().values()) if isinstance(rule, Rule)}


@dataclass(frozen=True, slots=True)
class LintOptions:
    """What `# check=` asks for; `all` stands for every rule.

    Attributes:
        skip: rules that do not run.
        experimental: experimental rules that run.
        error: whether a warning fails the build.
    """

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> LintOptions:
        """Read `skip=A,B;error=true;experimental=all`.

        Raises:
            DockerfileError: an unknown option, or one without a value.
        """
        skip: frozenset[str] = frozenset()
        experimental: frozenset[str] = frozenset()
        error = False
        # Blanks around the separators are let pass; other text behind the options is a remark.
        options = _SEPARATOR.sub(r"\1", text.strip()).split(" ", 1)[0]
        for part in options.split(";") if options else ():
            key, equals, value = part.partition("=")
            if not equals or key not in ("skip", "experimental", "error"):
                raise DockerfileError(f"invalid check option {quote(key if equals else part)}")
            names = frozenset(value.split(","))
            if key == "skip":
                skip = names
            elif key == "experimental":
                experimental = names
            elif value.lower() in _BOOLEANS:
                error = _BOOLEANS[value.lower()]
            else:
                raise DockerfileError(
                    f"failed to parse check option {quote(part)}: {quote(value)} is neither true nor false"
                )
        return cls(skip, experimental, error)

    def runs(self, rule: Rule) -> bool:
        """Whether a rule runs."""
        if rule.experimental:
            return "all" in self.experimental or rule.name in self.experimental
        return "all" not in self.skip and rule.name not in self.skip

    def merged(self, other: LintOptions) -> LintOptions:
        """With the names of another set added."""
        return LintOptions(self.skip | other.skip, self.experimental | other.experimental, self.error)


class Linter:
    """Collects warnings.

    Attributes:
        warnings: in the order of their finding, none twice.
    """

    def __init__(self, options: LintOptions | None = None) -> None:
        self.options = options or LintOptions()
        self.warnings: list[LintWarning] = []

    def warn(self, rule: Rule, where: Range, *particulars: str, comments: Iterable[str] = ()) -> None:
        """Record a finding, unless the file or a `# check=` comment directly above the instruction says otherwise."""
        if not self._options(comments).runs(rule):
            return
        warning = LintWarning(rule, rule.message.format(*particulars), where)
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _options(self, comments: Iterable[str]) -> LintOptions:
        for comment in comments:
            directive = parse_directive(comment, 0)
            if directive is not None and directive.key == "check":
                try:
                    return self.options.merged(LintOptions.parse(directive.value))
                except DockerfileError:
                    break  # an ordinary comment that happens to look like one
        return self.options

    def check(self) -> None:
        """Fail when there are warnings and `error=true` is set.

        Raises:
            DockerfileError: naming the rules.
        """
        if self.options.error and self.warnings:
            names = ", ".join(sorted({warning.rule.name for warning in self.warnings}))
            raise DockerfileError(f"lint violation found for rules: {names}")


def summary(warnings: list[LintWarning]) -> str:
    """What is printed after a build; "" without warnings."""
    if not warnings:
        return ""
    count = f" {len(warnings)} warning{'s' if len(warnings) > 1 else ''} found:\n"
    return count + "".join(f" - {warning.summary()}\n" for warning in warnings)
