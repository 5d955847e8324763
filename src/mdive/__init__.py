"""mdive: from (area, time window, event type) to a decision product."""
