//! The tray's icon, drawn: its shape tells the state, not its colour alone.
//! Light with a dark rim, so that it is seen on light and dark panels.

use ksni::Icon;

use super::menu::Shape;

/// Sizes in pixels that hosts ask for.
const SIZES: [i32; 3] = [22, 32, 48];

/// Samples of one pixel in each direction.
const SAMPLES: i32 = 4;

/// The icon in all sizes, ARGB in network byte order (StatusNotifierItem).
pub fn icons(shape: Shape) -> Vec<Icon> {
    SIZES.map(|size| Icon { width: size, height: size, data: draw(shape, size) }).into()
}

/// What covers a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    None,
    Rim,
    Light,
}

fn draw(shape: Shape, size: i32) -> Vec<u8> {
    let mut data = Vec::new();
    for y in 0..size {
        for x in 0..size {
            let (mut light, mut rim) = (0, 0);
            for sample in 0..SAMPLES * SAMPLES {
                let at = |pixel: i32, step: i32| {
                    (f64::from(pixel) + (f64::from(step) + 0.5) / f64::from(SAMPLES))
                        / f64::from(size)
                };
                match ink(shape, at(x, sample % SAMPLES), at(y, sample / SAMPLES)) {
                    Ink::None => {}
                    Ink::Rim => rim += 1,
                    Ink::Light => light += 1,
                }
            }
            let all = SAMPLES * SAMPLES;
            let byte = |value: i32| u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX);
            let alpha = (light * 255 + rim * 170) / all;
            let grey = if light + rim == 0 { 0 } else { (light * 245 + rim * 30) / (light + rim) };
            data.extend([byte(alpha), byte(grey), byte(grey), byte(grey)]);
        }
    }
    data
}

/// A disc; idle it is a ring, with a dot in a corner somebody is needed, with a
/// cut-out exclamation mark something is wrong. Coordinates from 0 to 1.
fn ink(shape: Shape, x: f64, y: f64) -> Ink {
    /// Width of the dark rim.
    const RIM: f64 = 0.05;
    let from = |cx: f64, cy: f64| (x - cx).hypot(y - cy);
    let disc = |distance: f64, radius: f64| match distance {
        d if d <= radius => Ink::Light,
        d if d <= radius + RIM => Ink::Rim,
        _ => Ink::None,
    };
    let body = from(0.5, 0.5);
    match shape {
        Shape::Running => disc(body, 0.38),
        Shape::Idle => match body {
            d if (0.27..=0.38).contains(&d) => Ink::Light,
            d if (0.27 - RIM..=0.38 + RIM).contains(&d) => Ink::Rim,
            _ => Ink::None,
        },
        Shape::NeedsYou => {
            let dot = from(0.78, 0.22);
            match disc(dot, 0.18) {
                // A gap between the two.
                Ink::None if dot <= 0.29 => Ink::None,
                Ink::None => disc(from(0.46, 0.54), 0.36),
                covered => covered,
            }
        }
        Shape::Trouble => {
            let bar = (x - 0.5).abs() <= 0.06 && (0.26..=0.56).contains(&y);
            let point = (x - 0.5).abs() <= 0.06 && (0.64..=0.75).contains(&y);
            if bar || point { Ink::Rim } else { disc(body, 0.42) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_shape_of_its_own() {
        let shapes = [Shape::Idle, Shape::Running, Shape::NeedsYou, Shape::Trouble];
        for (index, shape) in shapes.iter().enumerate() {
            let icons = icons(*shape);
            assert!(
                icons.iter().all(|icon| icon.data.len()
                    == usize::try_from(icon.width * icon.height * 4).unwrap())
            );
            // Without the colour: where there is something.
            let solid = |shape: Shape| -> Vec<bool> {
                draw(shape, 22).chunks(4).map(|pixel| pixel[0] > 200).collect()
            };
            for other in &shapes[index + 1..] {
                let differ =
                    solid(*shape).iter().zip(solid(*other)).filter(|(a, b)| **a != *b).count();
                assert!(differ > 20, "{shape:?} {other:?}: {differ}");
            }
        }
    }

    #[test]
    fn idle_is_an_outline_and_running_is_filled() {
        let middle = |shape| ink(shape, 0.5, 0.5);
        assert_eq!((middle(Shape::Idle), middle(Shape::Running)), (Ink::None, Ink::Light));
        assert_eq!(ink(Shape::NeedsYou, 0.8, 0.2), Ink::Light);
        assert_eq!(ink(Shape::Trouble, 0.5, 0.4), Ink::Rim);
    }
}
