"""The canary: an event of Waylink's own that goes the whole way, to show that the way is open.

Its names are reserved, as no environment and no team can have them: theirs are of letters, digits, `-` and `_`.
"""

import json
from typing import Final

from app.domain.definitions import DestinationKey

ENVIRONMENT: Final = "waylink:canary"
TEAM: Final = ENVIRONMENT
DESTINATION: Final = "canary"
KEY: Final[DestinationKey] = (TEAM, DESTINATION)
KIND: Final = "canary"  # of its destination, in memory; the row has one that earlier releases know
ROUTE: Final = "canary"
JOB: Final = "waylink.canary"
UNTOLD: Final = "canary"  # why teams are not told of it

# In the form of a webhook about a connection: a worker of an earlier release, which does not know the environment, puts
# it off until one of this release takes it, and routes nothing.
BODY: Final = json.dumps(
    {
        "from": "nango",
        "type": "auth",
        "connectionId": "canary",
        "providerConfigKey": "canary",
        "authMode": "API_KEY",
        "provider": "canary",
        "environment": ENVIRONMENT,
        "operation": "creation",
        "success": True,
    },
    separators=(",", ":"),
).encode()
