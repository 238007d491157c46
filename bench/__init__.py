"""The comparison of nextok with its peers: see README.md beside this file."""
