import unittest

from parcels.weights import parse_weight


class ParseWeightTest(unittest.TestCase):
    def test_grams_are_kept(self):
        self.assertEqual(parse_weight("800 g"), 800)

    def test_kilograms_are_thousands_of_grams(self):
        self.assertEqual(parse_weight("1.5kg"), 1500)

    def test_a_decimal_that_binary_cannot_hold_is_not_cut_off(self):
        self.assertEqual(parse_weight("1.001 kg"), 1001)

    def test_pounds_are_rounded_to_the_nearest_gram(self):
        self.assertEqual(parse_weight("1 lb"), 454)

    def test_text_without_a_unit_is_refused(self):
        with self.assertRaises(ValueError):
            parse_weight("800")
