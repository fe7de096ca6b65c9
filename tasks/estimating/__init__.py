"""How large a build will be: what its prompts read, before any is sent."""
