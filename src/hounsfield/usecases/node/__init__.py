"""The verbs of a department's node: receive, route, work, deliver, and serve them all together."""
