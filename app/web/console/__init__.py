"""The operators' console: pages made on the server, which work without JavaScript."""
