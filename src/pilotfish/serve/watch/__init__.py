"""What is watched while a cascade serves: drift, escalations, audits, labels. numpy alone."""
