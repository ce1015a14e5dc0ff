"""Your environment: a class with `reset` and `step`; each episode has an instance of its own."""


class Corridor:
    """Walk to the door of a corridor with seven places; `l` goes left, `r` goes right."""

    @staticmethod
    def tasks(split, size, seed):
        """List the tasks; each is a mapping that `reset` gets."""
        return [{"start": a, "door": b} for a in range(1, 8) for b in range(1, 8) if a != b]

    def reset(self, task, seed):
        """Begin an episode and return the first observation."""
        self.place, self.door = task["start"], task["door"]
        return self.look()

    def step(self, action):
        """Answer an action: text, or a mapping with `observation`, `reward`, `terminated` and others.

        `action` is what the policy wrote between <action> and </action> where the prompt shows these tags, and else
        all that it wrote. It may be any text.
        """
        if action not in {"l", "r"}:
            return {"observation": self.look(), "valid": False}
        self.place = min(7, max(1, self.place + (1 if action == "r" else -1)))
        there = self.place == self.door
        return {"observation": self.look(), "reward": float(there), "terminated": there}

    def look(self):
        """Describe the place."""
        return f"Place {self.place}, the door is to the {'right' if self.door > self.place else 'left'}: "
