"""A catalogue of ways out of a sandbox, each tried for real and judged from outside."""
