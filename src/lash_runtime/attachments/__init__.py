"""Attachment stores that are no part of a storage, and what looks after them."""

from .file import FileAttachmentStore
from .reclaiming import AttachmentReclamationReport, reclaim_orphaned_attachments

__all__ = ["AttachmentReclamationReport", "FileAttachmentStore", "reclaim_orphaned_attachments"]
