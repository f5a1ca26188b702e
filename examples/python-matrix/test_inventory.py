import unittest

from inventory import Inventory


class InventoryTest(unittest.TestCase):
    def test_amounts_are_added_up(self):
        stock = Inventory.read("apples 3\npears 2\napples 4\n")
        self.assertEqual(stock.amount("apples"), 7)
        self.assertEqual(stock.total(), 9)

    def test_empty_lines_mean_nothing(self):
        self.assertEqual(Inventory.read("\n  \n").total(), 0)

    def test_names_are_sorted_whatever_the_hash_seed(self):
        stock = Inventory.read("pears 1\nfigs 1\napples 1\n")
        self.assertEqual(stock.names(), ["apples", "figs", "pears"])

    def test_a_bad_line_is_named(self):
        with self.assertRaisesRegex(ValueError, "line 2"):
            Inventory.read("apples 3\npears many\n")


if __name__ == "__main__":
    unittest.main()
