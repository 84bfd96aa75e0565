import unittest

from parcels.tariff import postage


class PostageTest(unittest.TestCase):
    def test_a_light_parcel_costs_the_lowest_price(self):
        self.assertEqual(postage(120), 390)

    def test_a_parcel_of_exactly_the_limit_still_belongs_to_the_class(self):
        self.assertEqual(postage(1000), 490)

    def test_the_heaviest_parcel_that_is_allowed_has_a_price(self):
        self.assertEqual(postage(10000), 1090)

    def test_express_costs_more(self):
        self.assertEqual(postage(700, express=True), 840)

    def test_a_parcel_over_the_limit_is_refused(self):
        with self.assertRaises(ValueError):
            postage(10001)

    def test_a_parcel_without_weight_is_refused(self):
        with self.assertRaises(ValueError):
            postage(0)
