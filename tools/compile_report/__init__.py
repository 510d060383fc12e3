"""What a program would need on devices that are not here: `python -m tools.compile_report`."""
