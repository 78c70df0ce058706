//! Amounts of resources, in integers.
//!
//! [`Resources`] is what scheduling and admission compute with: milli-cpu, bytes, counts. Parsing
//! of quantity text (`100m`, `1.5Gi`, `2e3`) is [`Quantity`].

use std::fmt;

use smallvec::SmallVec;

use super::Text;

/// A `resource.Quantity`, exact to a billionth as upstream keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// From a whole number of units.
    pub fn from_units(units: i64) -> Self {
        Quantity {
            nanos: i128::from(units) * 1_000_000_000,
        }
    }

    /// From billionths.
    pub fn from_nanos(nanos: i128) -> Self {
        Quantity { nanos }
    }

    /// Whole units, rounded up as `Quantity.Value()` does.
    pub fn value(self) -> i64 {
        saturate(div_ceil(self.nanos, 1_000_000_000))
    }

    /// Thousandths, rounded up as `Quantity.MilliValue()` does.
    pub fn milli_value(self) -> i64 {
        saturate(div_ceil(self.nanos, 1_000_000))
    }

    /// Billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// Reads quantity text (`100m`, `1.5Gi`, `2e3`). Values that are finer than a billionth are
    /// rounded up, away from zero.
    ///
    /// # Errors
    /// When the text is not a quantity.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let parsed = Parsed::read(text)?;
        Ok(Quantity {
            nanos: parsed.nanos(),
        })
    }

    /// As [`Quantity::parse`], with how it was written.
    ///
    /// # Errors
    /// When the text is not a quantity.
    pub fn parse_as_written(text: &str) -> Result<(Quantity, Format), QuantityError> {
        let parsed = Parsed::read(text)?;
        let nanos = parsed.nanos();
        Ok((Quantity { nanos }, parsed.format))
    }

    /// The canonical text of quantity text, as the API server prints it back: `1.5Gi` is `1536Mi`.
    /// `resource.Quantity :: CanonicalizeBytes`, and text that is canonical enough stays as it is.
    ///
    /// # Errors
    /// When the text is not a quantity.
    pub fn canonical(text: &str) -> Result<String, QuantityError> {
        let text = text.trim();
        let parsed = Parsed::read(text)?;
        if parsed.kept_as_written() {
            return Ok(text.to_owned());
        }
        Ok(print(parsed.nanos(), parsed.format))
    }

    /// The canonical text in a format.
    pub fn print(self, format: Format) -> String {
        print(self.nanos, format)
    }
}

/// How a quantity was written, which decides how it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12M`.
    #[default]
    DecimalSi,
    /// `12Mi`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// Why a text is not a quantity; upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityError {
    /// It does not look like one.
    Format,
    /// Its number does not parse.
    Number,
    /// Its suffix is not known.
    Suffix,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QuantityError::Format => {
                "quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            }
            QuantityError::Number => "unable to parse numeric part of quantity",
            QuantityError::Suffix => "unable to parse quantity's suffix",
        })
    }
}

impl std::error::Error for QuantityError {}

/// The parts of quantity text; `resource.parseQuantityString`.
struct Parsed<'a> {
    negative: bool,
    /// Digits before the point without leading zeros (`0` when there are none).
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    format: Format,
    /// Of 10, or of 2 for [`Format::BinarySi`].
    exponent: i32,
}

impl<'a> Parsed<'a> {
    fn read(text: &'a str) -> Result<Parsed<'a>, QuantityError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        let rest = rest.trim_start_matches('0');
        let (whole, rest) = split_digits(rest);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        check_suffix(suffix)?;
        let (format, exponent) = interpret(suffix).ok_or(QuantityError::Suffix)?;
        let zeros = text.contains('0');
        let parsed = Parsed {
            negative,
            whole: if whole.is_empty() { "0" } else { whole },
            fraction,
            format,
            exponent,
        };
        // The slow path wants digits; the fast one takes none as 0.
        if whole.is_empty() && fraction.is_empty() && !zeros && !parsed.fast() {
            return Err(QuantityError::Number);
        }
        Ok(parsed)
    }

    /// The power of ten of the last digit.
    fn scale(&self) -> i32 {
        let exponent = if self.format == Format::BinarySi {
            0
        } else {
            self.exponent
        };
        exponent - self.fraction.len() as i32
    }

    /// Whether upstream computes in 64 bits.
    fn fast(&self) -> bool {
        let (whole, fraction) = (self.whole.len() as i32, self.fraction.len() as i32);
        let precision = match (self.format == Format::BinarySi, fraction == 0) {
            (false, _) => 18 - (whole + fraction),
            (true, true) => 15 - whole - self.exponent * 3 / 10 - 1,
            (true, false) => -1,
        };
        precision >= 0 && self.scale() >= -9
    }

    /// Whether upstream keeps the text: it fits 64 bits and is in canonical form.
    fn kept_as_written(&self) -> bool {
        if !self.fast() {
            return false;
        }
        let shifted = format!("{}{}", self.whole, self.fraction);
        if self.format == Format::BinarySi {
            // A mantissa that still has three factors of two might be a larger unit.
            shifted.parse::<i64>().is_ok_and(|v| v & 7 != 0)
        } else {
            self.scale() % 3 == 0 && !shifted.ends_with("000") && !shifted.starts_with('0')
        }
    }

    fn nanos(&self) -> i128 {
        let mut mantissa: i128 = 0;
        let mut exponent = if self.format == Format::BinarySi {
            9
        } else {
            self.exponent.saturating_add(9)
        };
        let mut lost = false;
        for digit in self.whole.bytes().chain(self.fraction.bytes()) {
            let digit = i128::from(digit - b'0');
            match mantissa.checked_mul(10).and_then(|m| m.checked_add(digit)) {
                // Leave room for the binary factor.
                Some(m) if m < 1 << 100 => mantissa = m,
                _ => {
                    lost |= digit != 0;
                    exponent = exponent.saturating_add(1);
                }
            }
        }
        exponent = exponent.saturating_sub(self.fraction.len() as i32);
        if self.format == Format::BinarySi {
            mantissa = mantissa.saturating_mul(1 << self.exponent);
        }
        let mut nanos = scaled(mantissa, exponent);
        if lost && exponent < 0 {
            nanos = nanos.saturating_add(1);
        }
        if self.format == Format::BinarySi {
            nanos = nanos.min(i128::from(i64::MAX) * 1_000_000_000);
        }
        if self.negative { -nanos } else { nanos }
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Letters, then an optional sign and digits, as the scanner allows.
fn check_suffix(suffix: &str) -> Result<(), QuantityError> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) {
        Ok(())
    } else {
        Err(QuantityError::Format)
    }
}

/// `suffixHandler.interpret`.
fn interpret(suffix: &str) -> Option<(Format, i32)> {
    Some(match suffix {
        "" => (Format::DecimalSi, 0),
        "n" => (Format::DecimalSi, -9),
        "u" => (Format::DecimalSi, -6),
        "m" => (Format::DecimalSi, -3),
        "k" => (Format::DecimalSi, 3),
        "M" => (Format::DecimalSi, 6),
        "G" => (Format::DecimalSi, 9),
        "T" => (Format::DecimalSi, 12),
        "P" => (Format::DecimalSi, 15),
        "E" => (Format::DecimalSi, 18),
        "Ki" => (Format::BinarySi, 10),
        "Mi" => (Format::BinarySi, 20),
        "Gi" => (Format::BinarySi, 30),
        "Ti" => (Format::BinarySi, 40),
        "Pi" => (Format::BinarySi, 50),
        "Ei" => (Format::BinarySi, 60),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i64 = digits.parse().ok()?;
            (Format::DecimalExponent, exponent.clamp(-400, 400) as i32)
        }
    })
}

/// `mantissa` × 10^`exponent`, rounded up; at the ends of the range it stays there.
fn scaled(mantissa: i128, exponent: i32) -> i128 {
    if mantissa == 0 {
        return 0;
    }
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    match (power, exponent >= 0) {
        (Some(power), true) => mantissa.saturating_mul(power),
        (Some(power), false) => div_ceil(mantissa, power),
        (None, true) => i128::MAX,
        (None, false) => 1,
    }
}

/// `Quantity.CanonicalizeBytes`.
fn print(nanos: i128, format: Format) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let unit: i128 = 1_000_000_000;
    let whole = nanos % unit == 0;
    if format == Format::BinarySi && whole && nanos.unsigned_abs() >= 1024 * unit.unsigned_abs() {
        let (mut value, mut power) = (nanos / unit, 0);
        while value % 1024 == 0 && power < 6 {
            value /= 1024;
            power += 1;
        }
        return format!("{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
    }
    let (mut value, mut exponent) = (nanos, -9);
    while value % 10 == 0 {
        value /= 10;
        exponent += 1;
    }
    while exponent % 3 != 0 || (format != Format::DecimalExponent && exponent > 18) {
        value = value.saturating_mul(10);
        exponent -= 1;
    }
    if format == Format::DecimalExponent {
        return match exponent {
            0 => value.to_string(),
            _ => format!("{value}e{exponent}"),
        };
    }
    let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    format!("{value}{}", suffixes[((exponent + 9) / 3) as usize])
}

fn div_ceil(a: i128, b: i128) -> i128 {
    // Away from zero for both signs, as upstream's infDec rounding up does.
    a / b + (a % b).signum()
}

fn saturate(v: i128) -> i64 {
    i64::try_from(v).unwrap_or(if v > 0 { i64::MAX } else { i64::MIN })
}

/// A bundle of resource amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// CPU in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// `ephemeral-storage` in bytes.
    pub ephemeral: i64,
    /// Pod slots (`pods`); only in capacity and allocatable.
    pub pods: i64,
    /// Everything else by name (`nvidia.com/gpu`, `hugepages-2Mi`), sorted by name.
    pub extended: SmallVec<[(Text, i64); 0]>,
    /// Which of cpu, memory and ephemeral-storage were named at all (bits 0, 1, 2, pods 3): an
    /// explicit zero differs from an absent key in QoS, limits and defaults.
    pub named: u8,
}

impl Resources {
    /// The amount of an extended resource, 0 when absent.
    pub fn extended(&self, name: &str) -> i64 {
        self.extended
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0, |(_, v)| *v)
    }

    /// Sets an extended resource, keeping the order by name.
    pub fn set_extended(&mut self, name: &Text, amount: i64) {
        match self.extended.binary_search_by(|(n, _)| n.cmp(name)) {
            Ok(at) => self.extended[at].1 = amount,
            Err(at) => self.extended.insert(at, (name.clone(), amount)),
        }
    }

    /// Whether nothing was named.
    pub fn is_empty(&self) -> bool {
        self.named == 0 && self.extended.is_empty()
    }

    /// Adds `other` to this, amount by amount.
    pub fn add(&mut self, other: &Resources) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral = self.ephemeral.saturating_add(other.ephemeral);
        self.pods = self.pods.saturating_add(other.pods);
        self.named |= other.named;
        for (name, amount) in &other.extended {
            let sum = self.extended(name).saturating_add(*amount);
            self.set_extended(name, sum);
        }
    }

    /// Subtracts `other` from this, amount by amount.
    pub fn sub(&mut self, other: &Resources) {
        self.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        self.memory = self.memory.saturating_sub(other.memory);
        self.ephemeral = self.ephemeral.saturating_sub(other.ephemeral);
        self.pods = self.pods.saturating_sub(other.pods);
        for (name, amount) in &other.extended {
            let rest = self.extended(name).saturating_sub(*amount);
            self.set_extended(name, rest);
        }
    }

    /// Raises each amount to at least that of `other`.
    pub fn max(&mut self, other: &Resources) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        self.pods = self.pods.max(other.pods);
        self.named |= other.named;
        for (name, amount) in &other.extended {
            let most = self.extended(name).max(*amount);
            self.set_extended(name, most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_and_printed_canonically() {
        // text, canonical text, value rounded up, thousandths rounded up
        let table = [
            ("0", "0", 0, 0),
            ("e3", "0", 0, 0),
            ("100m", "100m", 1, 100),
            ("0.1", "100m", 1, 100),
            ("1.5", "1500m", 2, 1500),
            ("1.5Gi", "1536Mi", 1_610_612_736, 1_610_612_736_000),
            ("1000", "1k", 1000, 1_000_000),
            ("1024", "1024", 1024, 1_024_000),
            ("1024Ki", "1Mi", 1_048_576, 1_048_576_000),
            ("1000Ki", "1000Ki", 1_024_000, 1_024_000_000),
            ("2e3", "2e3", 2000, 2_000_000),
            ("2E3", "2E3", 2000, 2_000_000),
            ("1500e-3", "1500e-3", 2, 1500),
            ("100e2", "10e3", 10_000, 10_000_000),
            ("0.5Mi", "512Ki", 524_288, 524_288_000),
            ("0.5Ki", "512", 512, 512_000),
            ("1.2345Ki", "1264128m", 1265, 1_264_128),
            ("-1", "-1", -1, -1000),
            ("-0.5", "-500m", -1, -500),
            ("1u", "1u", 1, 1),
            ("0.1n", "1n", 1, 1),
            ("5.", "5.", 5, 5000),
            ("05", "05", 5, 5000),
            ("128974848", "128974848", 128_974_848, 128_974_848_000),
            (
                "9223372036854775807",
                "9223372036854775807",
                i64::MAX,
                i64::MAX,
            ),
            ("16Ei", "9223372036854775807", i64::MAX, i64::MAX),
            (" 1Gi ", "1Gi", 1 << 30, (1 << 30) * 1000),
        ];
        for (text, canonical, value, milli) in table {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.value(), value, "value of {text}");
            assert_eq!(quantity.milli_value(), milli, "thousandths of {text}");
            assert_eq!(Quantity::canonical(text).unwrap(), canonical, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused_in_upstreams_words() {
        let table = [
            ("", QuantityError::Format),
            ("1.5.5Gi", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("150%", QuantityError::Format),
            ("1Gb", QuantityError::Format),
            ("1ki", QuantityError::Suffix),
            ("1mm", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("Ei", QuantityError::Number),
        ];
        for (text, error) in table {
            assert_eq!(Quantity::parse(text), Err(error), "{text}");
        }
    }
}
