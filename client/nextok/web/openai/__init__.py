"""OpenAI's API, as far as GPT-2 can keep what it promises: completions and models."""
