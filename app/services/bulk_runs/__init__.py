"""Acts on all rows that match a filter, as runs that workers carry out in the background."""
