"""Who to trust: fitting, ranking, calibrating and exporting the router."""
