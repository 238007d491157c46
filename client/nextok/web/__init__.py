"""`nextok web`: a page to look at probabilities with, and a door for OpenAI's clients.

A web server in front of a nextok server, with the asyncio client between them. Needs the extra
`web`; `import nextok` does not import it.
"""
