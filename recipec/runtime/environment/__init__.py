"""Who answers the policy."""
