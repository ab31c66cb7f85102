//! Amounts as Kubernetes writes them: `512Mi`, `500m`, `2`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// An amount as Kubernetes writes it. It is kept as it was written; a bare number in YAML is an amount too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

impl Quantity {
    /// The amount rounded up to whole units (bytes, for memory), or `None` where the text is no amount or is too large.
    pub fn units(&self) -> Option<i64> {
        self.thousandths()
            .map(|thousandths| thousandths.div_euclid(1000) + i128::from(thousandths.rem_euclid(1000) > 0))
            .and_then(|units| i64::try_from(units).ok())
    }

    /// The amount in thousandths, rounded up (of a CPU, for CPU), or `None` where the text is no amount or is too large.
    pub fn millis(&self) -> Option<i64> {
        self.thousandths().and_then(|thousandths| i64::try_from(thousandths).ok())
    }

    fn thousandths(&self) -> Option<i128> {
        let text = self.0.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '+' && c != '-')
            .unwrap_or(text.len());
        // An exponent is the one place where a letter stands between digits.
        let (number, suffix) = match text.find(['e', 'E']) {
            Some(at)
                if at == end
                    && text[at + 1..].starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') =>
            {
                (text, "")
            }
            _ => text.split_at_checked(end)?,
        };
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (number, 0),
        };
        let (negative, digits) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        if whole.len() + fraction.len() > 24 || !(-18..=18).contains(&exponent) {
            return None;
        }
        let (factor, divisor): (i128, i128) = match suffix {
            "n" => (1, 1_000_000_000),
            "u" => (1, 1_000_000),
            "m" => (1, 1000),
            "" => (1, 1),
            "k" => (1000, 1),
            "M" => (1_000_000, 1),
            "G" => (1_000_000_000, 1),
            "T" => (1_000_000_000_000, 1),
            "P" => (1_000_000_000_000_000, 1),
            "E" => (1_000_000_000_000_000_000, 1),
            "Ki" => (1 << 10, 1),
            "Mi" => (1 << 20, 1),
            "Gi" => (1 << 30, 1),
            "Ti" => (1 << 40, 1),
            "Pi" => (1 << 50, 1),
            "Ei" => (1 << 60, 1),
            _ => return None,
        };
        let value: i128 = format!("0{whole}{fraction}").parse().ok()?;
        let scale = i32::try_from(fraction.len()).ok()? - exponent;
        let mut numerator = value.checked_mul(factor)?.checked_mul(1000)?;
        let mut denominator = divisor;
        let power = 10i128.checked_pow(scale.unsigned_abs())?;
        if scale >= 0 {
            denominator = denominator.checked_mul(power)?;
        } else {
            numerator = numerator.checked_mul(power)?;
        }
        // Kubernetes rounds away from zero; nothing here is negative but a mistake.
        let rounded = numerator.checked_add(denominator - 1)? / denominator;
        Some(if negative { -rounded } else { rounded })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl Visitor<'_> for Amount {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as 512Mi, 500m or 2")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }

        deserializer.deserialize_any(Amount)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// An integer or a text, as in Kubernetes' own types, with its pattern for amounts.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$",
            "maxLength": 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_amounts_as_kubernetes_does() {
        for (text, units) in [
            ("0", 0),
            ("2", 2),
            ("512Mi", 512 << 20),
            ("1.5Gi", 3 << 29),
            ("1G", 1_000_000_000),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("0.1", 1),
            ("100m", 1),
            ("1Ki", 1024),
            ("1Ei", 1 << 60),
        ] {
            assert_eq!(Quantity::from(text).units(), Some(units), "{text}");
        }
        for (text, millis) in [("500m", 500), ("2", 2000), ("0.25", 250), ("1.5", 1500), ("1u", 1)] {
            assert_eq!(Quantity::from(text).millis(), Some(millis), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in
            ["", "Mi", ".", "1..2", "1Mib", "abc", "--1", "1e99", "99999999999999999999999999", "é", "1e"]
        {
            assert_eq!(Quantity::from(text).units(), None, "{text}");
        }
        assert_eq!(Quantity::from("9Ei").millis(), None);
    }

    #[test]
    fn a_bare_number_is_an_amount_too() {
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap(), Quantity::from("2"));
        assert_eq!(serde_json::from_str::<Quantity>("\"512Mi\"").unwrap(), Quantity::from("512Mi"));
    }
}
