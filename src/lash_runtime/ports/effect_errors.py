"""The one error of the effect seam, raised on both of its sides."""


class EffectControllerError(Exception):
    """The effect seam failed. `code` is stable.

    A model call or a tool that fails is no such error: it is data inside an outcome.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
