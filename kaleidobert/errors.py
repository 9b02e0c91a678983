"""The one exception that a person is meant to read: what happened, where, what was expected, how to fix it."""


class UserError(Exception):
    """A mistake in input, configuration or surroundings; commands print it as one message, without a traceback.

    what: what happened. where: the file, row, key or level. expected: what would have been right. fix: what to do. status: the exit
    status of a command that ends so.
    """

    status = 2

    def __init__(self, what: str, where: str = "", expected: str = "", fix: str = ""):
        self.what, self.where, self.expected, self.fix = what, where, expected, fix
        parts = [f"{where}: {what}" if where else what]
        parts += [f"expected: {expected}"] if expected else []
        parts += [f"to fix: {fix}"] if fix else []
        super().__init__("; ".join(parts))

    def __reduce__(self):  # so that a worker process can hand it to its parent
        return type(self), (self.what, self.where, self.expected, self.fix)


class Incomplete(UserError):
    """The work is done and can be used, but a larger fraction of the input was skipped than is allowed."""

    status = 3
