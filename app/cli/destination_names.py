"""How commands name a destination or a route, and their option for JSON."""

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PLACE = click.argument("place", metavar="TEAM/NAME")
ROUTE = click.argument("route", metavar="TEAM/NAME")
