"""What may be used: limits of personas, tenants, keys and providers, reserved before a chat and corrected after it."""
