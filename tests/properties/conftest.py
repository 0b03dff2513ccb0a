"""How many examples hypothesis tries; in CI the same ones each time.

``HYPOTHESIS_PROFILE=long python -m pytest tests/properties --timeout 0`` looks further.
"""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("short", max_examples=150, deadline=None, derandomize="CI" in os.environ)
settings.register_profile(
    "long", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("short"), max_examples=40)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
