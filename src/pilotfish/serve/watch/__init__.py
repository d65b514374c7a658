"""Monitoring while a cascade is served: drift, escalations, audits, labels. It needs only numpy."""
