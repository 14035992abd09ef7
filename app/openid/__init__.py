"""The client of one OpenID Connect provider: where operators are sent to sign in, and what it says of them then."""
