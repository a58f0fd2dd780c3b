//! How many bytes the values of an array take: of its own rows alone, whatever else is in the
//! buffers that it shares with others.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, GenericByteArray, GenericListArray, GenericListViewArray,
    OffsetSizeTrait, RecordBatch,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{ByteArrayType, DataType};

/// What a value takes at least, in a text or elsewhere.
const VALUE_BYTES: usize = 8;

/// Returns about how many bytes the values of `batch` take.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(array_bytes).sum()
}

fn array_bytes(array: &ArrayRef) -> usize {
    let values = match array.data_type() {
        DataType::Utf8 => bytes(array.as_string::<i32>()),
        DataType::LargeUtf8 => bytes(array.as_string::<i64>()),
        DataType::Binary => bytes(array.as_binary::<i32>()),
        DataType::LargeBinary => bytes(array.as_binary::<i64>()),
        DataType::Utf8View => array.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => {
            array.as_binary_view().lengths().map(|length| length as usize).sum()
        }
        DataType::List(_) => list(array.as_list::<i32>()),
        DataType::LargeList(_) => list(array.as_list::<i64>()),
        DataType::ListView(_) => list_view(array.as_list_view::<i32>()),
        DataType::LargeListView(_) => list_view(array.as_list_view::<i64>()),
        DataType::FixedSizeList(_, _) => array_bytes(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (begin, length) = range(map.offsets());
            let entries = map.entries().slice(begin, length);
            entries.columns().iter().map(array_bytes).sum()
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(array_bytes).sum(),
        DataType::Dictionary(_, _) => share(array.as_any_dictionary().values(), array.len()),
        // Whose values are not found without its type: their kinds are rare.
        DataType::RunEndEncoded(_, _) | DataType::Union(_, _) => array.get_array_memory_size(),
        data_type => data_type.primitive_width().unwrap_or(0) * array.len(),
    };
    values.max(VALUE_BYTES * array.len())
}

fn bytes<T: ByteArrayType>(array: &GenericByteArray<T>) -> usize {
    range(array.offsets()).1
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> usize {
    let (begin, length) = range(array.offsets());
    array_bytes(&array.values().slice(begin, length))
}

fn list_view<O: OffsetSizeTrait>(array: &GenericListViewArray<O>) -> usize {
    share(array.values(), array.sizes().iter().map(|size| size.as_usize()).sum())
}

/// Returns where the values begin, and how many there are.
fn range<O: OffsetSizeTrait>(offsets: &OffsetBuffer<O>) -> (usize, usize) {
    let begin = offsets.first().map_or(0, |offset| offset.as_usize());
    let end = offsets.last().map_or(0, |offset| offset.as_usize());
    (begin, end - begin)
}

/// Returns what `count` of the values take, which are used in any order and number.
fn share(values: &ArrayRef, count: usize) -> usize {
    array_bytes(values).checked_div(values.len()).unwrap_or(0).saturating_mul(count)
}
