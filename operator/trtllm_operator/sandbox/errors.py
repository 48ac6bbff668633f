"""The one exception the sandbox raises for anything a user can put right."""


class SandboxError(Exception):
    """An expected failure; the message is one line that says what to do."""
