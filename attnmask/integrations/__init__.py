"""attnmask inside other libraries. Each integration is imported by its own name; this imports none of them."""
