"""Images as tests need them: recognisable, small unless asked otherwise, and each its own."""

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"


def a_png(name: str = "cat", size: int = 0) -> bytes:
    return PNG + name.encode().ljust(size, b".")


def a_jpeg(name: str = "cat") -> bytes:
    return JPEG + name.encode()
