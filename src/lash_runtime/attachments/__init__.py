"""Attachment stores that are no part of a storage."""

from .file import FileAttachmentStore

__all__ = ["FileAttachmentStore"]
