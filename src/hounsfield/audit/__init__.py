"""Who did what: an append-only ledger that shows when a line was changed or taken out."""

from hounsfield.audit.ledger import AuditEvent, Ledger, Verdict, verify

__all__ = ["AuditEvent", "Ledger", "Verdict", "verify"]
