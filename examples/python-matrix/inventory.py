"""An inventory that is read from lines of `name amount`."""

from collections import Counter


class Inventory:
    """How many pieces there are of each thing."""

    def __init__(self):
        self._amounts = Counter()

    @classmethod
    def read(cls, text):
        """Reads an inventory; a thing that comes twice is added up."""
        inventory = cls()
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                name, amount = line.split()
                inventory._amounts[name] += int(amount)
            except ValueError as error:
                raise ValueError(f"line {number}: expected `name amount`, got {line!r}") from error
        return inventory

    def amount(self, name):
        """How many pieces there are of one thing."""
        return self._amounts[name]

    def total(self):
        """How many pieces there are in all."""
        return self._amounts.total()

    def names(self):
        """The things, sorted."""
        return sorted(self._amounts)
