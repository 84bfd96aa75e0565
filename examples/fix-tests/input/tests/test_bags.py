import unittest

from parcels.bags import fill_bags


class FillBagsTest(unittest.TestCase):
    def test_a_bag_is_closed_before_it_gets_too_heavy(self):
        self.assertEqual(fill_bags([400, 500, 300], limit=1000), [[400, 500], [300]])

    def test_a_bag_may_be_filled_to_the_limit(self):
        self.assertEqual(fill_bags([600, 400], limit=1000), [[600, 400]])

    def test_no_parcels_make_no_bags(self):
        self.assertEqual(fill_bags([], limit=1000), [])

    def test_a_parcel_over_the_limit_is_refused(self):
        with self.assertRaises(ValueError):
            fill_bags([1200], limit=1000)
