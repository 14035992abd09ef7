"""Which routes take an event: matching, explaining, and giving routes what is stored already."""
