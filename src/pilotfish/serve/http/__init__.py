"""What is said over HTTP: routes, protocols, and what the web layer does not bound."""
