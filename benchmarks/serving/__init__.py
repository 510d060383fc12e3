"""The server under load, under attack, and live."""
