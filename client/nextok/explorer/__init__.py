"""The full-screen explorer of `nextok step`; needs the extra `step`."""
