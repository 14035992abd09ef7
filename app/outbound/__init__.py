"""HTTP to teams: signed requests over connections to checked addresses."""
