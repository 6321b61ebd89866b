"""Problems of a configuration, and the error that carries all of them."""

from __future__ import annotations

import attrs

NOT_A_TABLE = "must be a table."
"""The message for a value of TOML that is not a table where one is needed."""


@attrs.frozen
class Problem:
    """A problem of a configuration.

    Attributes:
        setting: The setting at fault.
        message: The problem and the way out, in one or two sentences; never a secret's value.
    """

    setting: str
    message: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.message}"


class ConfigError(ValueError):
    """A configuration with which a server must not start; carries all of its problems."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
