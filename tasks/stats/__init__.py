"""Statistics: intervals, hypothesis tests, agreement, fitness and quotas. Pure functions."""
