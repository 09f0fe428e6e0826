"""What an operator sees: logs, and later metrics, traces and the audit log."""
