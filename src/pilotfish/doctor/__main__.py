"""``python -m pilotfish.doctor``: the JSON document where the command line itself cannot be imported."""

import json

from pilotfish.doctor.examination import examine

if __name__ == "__main__":
    print(json.dumps(examine().to_json(), indent=2))
