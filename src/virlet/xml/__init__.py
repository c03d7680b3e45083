"""XML as values: bounded parsing with positions, and elements declared once for reading, printing and reference."""
