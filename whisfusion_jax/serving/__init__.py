"""Speech to text over HTTP, as OpenAI's API has it."""
