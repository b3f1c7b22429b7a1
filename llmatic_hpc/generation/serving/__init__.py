"""One model for many runs: an OpenAI-compatible server over the package's own engine.

``address`` is how clients find it, ``protocol`` what they may ask and get, ``server`` the HTTP in
front, ``engine`` the one thread that writes all requests side by side.
"""
