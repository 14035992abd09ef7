"""Reading for people: lists, figures and what stands beside a row, as plain values."""
